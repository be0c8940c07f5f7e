"""This package holds what joins unitwork to other libraries, one module each."""
