"""Whether the cost of one task stays what it is when something else grows."""
