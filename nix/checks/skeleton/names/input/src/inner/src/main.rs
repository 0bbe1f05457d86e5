// the real one
