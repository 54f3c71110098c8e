"""The documents: their commands and snippets are run, and what they show is what was printed."""
