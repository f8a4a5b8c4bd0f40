"""One command a file: parse, call, hand to `render`. No logic, no drawing."""
