"""Stands in for axolotl's configuration: a dictionary with attributes."""


class DictDefault(dict[str, object]):
    def __getattr__(self, name: str) -> object:
        return self.get(name)

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value
