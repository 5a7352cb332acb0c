"""What `./dev` and the tests use to keep the house in order; nothing here ships in the package."""
