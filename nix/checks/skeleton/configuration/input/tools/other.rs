// not named
