"""Keys in files sign in the one form that verification takes."""

from pathlib import Path

from appliance.keys.file import create_claim_key
from attestation.keys import load_public_key


def test_every_claim_signature_is_in_its_one_form(tmp_path: Path) -> None:
    signer = create_claim_key(tmp_path / "key.pem")
    key = load_public_key(signer.public_pem)
    for number in range(20):  # half of all raw signatures are in the other form
        key.verify(signer.sign(str(number).encode()), str(number).encode())
