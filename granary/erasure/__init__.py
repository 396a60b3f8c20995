"""Erasure everywhere: of one person, out of everything that the warehouse keeps, in the one order that is safe."""
