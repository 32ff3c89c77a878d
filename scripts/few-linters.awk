# Reads golangci-lint's own list of linters and prints it with those alone that are
# wanted, so that the others are not compiled. It is a Go file: an import for each
# linter, and a list with a paragraph for each.
BEGIN {
	count = split(wanted, names)
	for (i = 1; i <= count; i++)
		keep[names[i]] = 1
	keep["golinters"] = 1 # what the program itself needs
}

/^\t"[^"]*\/pkg\/golinters\// {
	name = $0
	gsub(/.*\/|"/, "", name)
	if (name in keep)
		print
	next
}

/^\t\tlinter\.NewConfig\(/ {
	name = $0
	sub(/.*NewConfig\(/, "", name)
	sub(/\..*/, "", name)
	skip = !(name in keep)
}

/^\t}/ { skip = 0 } # the end of the list
skip { next }

# What only linters that are left out used.
{ sub(/placeholderReplacer := /, "_ = ") }
{ print }
