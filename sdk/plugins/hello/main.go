// Command hello is Pinfold's reference plugin: a small go-plugin binary of the goatflow dialect that
// reads a table of the host's database, keeps a counter in the host's cache, and logs through the
// host. It can reach none of these by itself: each is a call that the host checks.
//
// Three files: this one starts the server, contract.go is the goatflow contract, and hello.go is the
// plugin.
package main

import "github.com/hashicorp/go-plugin"

func main() {
	plugin.Serve(&plugin.ServeConfig{
		// The cookie tells that a host has started this program. It is no secret.
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  1,
			MagicCookieKey:   "GOATKIT_PLUGIN",
			MagicCookieValue: "goatkit-v1",
		},
		Plugins: map[string]plugin.Plugin{"gkplugin": &contract{plugin: &hello{}}},
	})
}
