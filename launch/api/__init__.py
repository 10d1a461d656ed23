"""What a notebook or a program calls: the functions that `from launch import …` gives."""
