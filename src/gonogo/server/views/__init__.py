"""The handlers, one module for each page. The route table says who may reach them."""
