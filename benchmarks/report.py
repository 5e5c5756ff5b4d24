def comparison_tables(f): return ""
def write(*a): return []
