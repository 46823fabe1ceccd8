"""What one question may cost. A query never disturbs the rest: whatever passes one of these is stopped and says so."""

#: Kept of an answer; what is more is cut off, and the answer says so.
MOST_ROWS = 10_000
MOST_BYTES = 5_000_000
#: Bytes of the child process that asks. The database's own memory is the database's business, except SQLite's.
MEMORY = 1_000_000_000
#: Of that, what SQLite may take for sorting and for values.
SQLITE_HEAP = 256_000_000
#: The longest question, in characters.
LONGEST_SQL = 20_000
MOST_PARAMETERS = 50
LONGEST_PARAMETER = 10_000
