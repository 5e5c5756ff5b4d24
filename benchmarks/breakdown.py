def run(smoke): return {}
