"""How a model is served once it is exported: its Modelfile, command lines, and what is proved of its prompts."""
