"""The pictures of docs/pictures, each made by one command from a real installation; nothing is drawn by hand."""
