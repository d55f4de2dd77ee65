"""Takes every right away from what it hands in, the folder included."""

from contract import MODEL, read, save

told = read()
save(told)
(told.leaf / MODEL).chmod(0)
told.leaf.chmod(0)
