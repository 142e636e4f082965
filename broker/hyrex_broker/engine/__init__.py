"""What the broker does all day: intake, dispatch, sessions, reports, sweeping. Knows no wire types."""
