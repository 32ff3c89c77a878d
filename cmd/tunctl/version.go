package main

import (
	"github.com/spf13/cobra"

	"tund/internal/ctl"
)

// versions is what version prints as JSON.
type versions struct {
	Schema int     `json:"schema"`
	Tunctl string  `json:"tunctl"`
	Tund   *string `json:"tund"` // null: it has not said
	Why    string  `json:"why"`  // it has not: "unreachable", "forbidden" or another code; "": it has

	err error
}

func newVersion(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of tunctl and of the tund that runs",
		Example: "  tunctl version",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			result := versions{Schema: ctl.Schema, Tunctl: version}
			answer, err := p.client().Version(cmd.Context())
			if err == nil {
				result.Tund = &answer.Version
			} else {
				_, code := classify(err)
				result.Why, result.err = string(code), err
			}
			p.showVersions(result)
			return nil
		},
	}
}

// showVersions prints both; that no tund runs is no error here.
func (p *program) showVersions(v versions) {
	if p.json {
		p.writeJSON(v)
		return
	}
	p.printf("tunctl %s\n", v.Tunctl)
	status, _ := classify(v.err)
	switch {
	case v.Tund != nil:
		p.printf("tund %s\n", *v.Tund)
	case status == exitUnreachable:
		p.printf("tund not reachable\n")
	case status == exitForbidden:
		p.printf("tund not permitted%s\n", hint(v.err, status))
	default:
		p.printf("tund not known: %v\n", v.err)
	}
}
