"""`python -m appliance` is `assay`."""

from appliance.cli import main

main()
