"""How fast unitwork is, compared with code written by hand and with other libraries."""
