"""`mnist draw`: a page to draw digits on, and the server that reads them."""
