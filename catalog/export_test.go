package catalog

// Seal makes a file that somebody else could make.
var Seal = seal
