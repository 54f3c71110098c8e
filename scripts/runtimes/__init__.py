"""Our integer library and other runtimes, held against each other on the QDQ export."""
