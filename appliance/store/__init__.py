"""The appliance's database: every SQL statement but the log's own, as functions that take a connection."""
