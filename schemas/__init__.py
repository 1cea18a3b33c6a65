"""What the data means: transactions, source mappings, features, errors and the files that describe them."""
