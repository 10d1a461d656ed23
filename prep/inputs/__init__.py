"""What is read: files of every usual format, each by one class that gives rows with their place in the file."""
