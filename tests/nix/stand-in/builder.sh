source "$setup"
genericBuild
exit 0
