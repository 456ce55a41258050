"""The pages: of each a module with its routes and an HTML file beside it."""
