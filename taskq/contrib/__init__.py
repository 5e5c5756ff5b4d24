"""Bridges to other libraries. Each stands alone, and none is imported by the core."""
