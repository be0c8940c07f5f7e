"""The contenders that every other one is compared with."""
