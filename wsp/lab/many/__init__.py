"""Many small networks side by side: plain, compiled, by recipes, stopped."""
