"""The HTTP front end. In sealed mode it holds nothing secret."""
