"""Teacher adapters, one file a family. They run in the teacher process only: nothing else imports them."""
