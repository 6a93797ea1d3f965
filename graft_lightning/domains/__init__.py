"""What the data is: one folder a domain; domains never import each other."""
