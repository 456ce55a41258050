"""The verbs of the Python interface, one file each: `niwaki.train`, `niwaki.evaluate`, `niwaki.compress` …"""
