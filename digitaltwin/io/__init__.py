"""Files in and out: photos, arrays, JSON, the shipped assets. Whatever is written appears whole or not at all."""
