"""The signed feed: a TUF repository of champions, its publisher, its mirror and its client.

TUF says what is current and what is revoked; the release bundle in each target says who made it.
"""
