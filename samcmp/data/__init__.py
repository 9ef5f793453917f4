"""What a dataset is: cards, files, rows, labels, splits."""
