"""What a notebook or a program calls: the functions that `from prep import …` gives."""
