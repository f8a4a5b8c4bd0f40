"""Drawn training material for reading pictures: digits, marks, lines and paper, as pages."""
