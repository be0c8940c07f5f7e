"""This package holds engines, pools and who listens to them."""
