"""Stands in for the package python-dotenv: there is no file of settings to load."""


def load_dotenv() -> bool:
    return False
