"""What can go wrong with the embedded Postgres."""


class EmbeddedPostgresError(RuntimeError):
    """The private server cannot be started; the text says why and what to do."""
