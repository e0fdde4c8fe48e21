"""What script/parity runs beside the family's own code, and the tests beside ours."""
