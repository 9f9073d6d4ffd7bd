package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
)

// name is the plugin's: the same here, in plugin.yaml, and of its folder and its program.
const name = "hello"

// hello is the plugin itself. The host calls it from many goroutines at once.
type hello struct {
	host atomic.Pointer[host]

	counting sync.Mutex // reading and writing back the counter is two calls
}

func (p *hello) register() registration {
	const base = "/api/plugins/" + name
	return registration{
		Name:        name,
		Version:     "1.0.0",
		Description: "Reads a table through the broker, counts in the cache, greets.",
		Author:      "The Pinfold authors",
		License:     "Apache-2.0",
		Routes: []route{
			{Method: "GET", Path: base + "/items", Handler: "items", Middleware: []string{"auth"},
				Description: "the rows of the table items"},
			{Method: "GET", Path: base + "/greeting", Handler: "greeting",
				Description: "a greeting for ?name="},
			{Method: "POST", Path: base + "/counter", Handler: "count", Middleware: []string{"auth"},
				Description: "adds one to a counter in the cache"},
		},
		// The same as in plugin.yaml: a host shows where the two differ.
		Resources: &resources{Permissions: []permission{
			{Type: "db", Access: "read", Scope: []string{"items"}},
			{Type: "cache", Access: "readwrite"},
		}},
	}
}

// init is called before any other call, and the host can be asked from here on. A host that was
// restarted may take the process over: it calls init again, while calls that it made before may
// still be under way.
func (p *hello) init(h *host, config map[string]string) error {
	p.host.Store(h)
	h.log("", "info", name+" is ready", map[string]any{"host_version": config["host_version"]})
	return nil
}

func (p *hello) call(function string, args json.RawMessage, token string) (json.RawMessage, error) {
	switch function {
	case "items":
		return p.items(token)
	case "greeting":
		return p.greeting(args)
	case "count":
		return p.count(token)
	case "echo": // what comes in goes out: for measuring the way there and back
		return args, nil
	default:
		return nil, fmt.Errorf("unknown function: %s", function)
	}
}

func (p *hello) items(token string) (json.RawMessage, error) {
	rows, err := p.host.Load().query(token, "SELECT id, name, price FROM items ORDER BY id")
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"items": rows})
}

// greeting finds query and path parameters beside each other in one flat object.
func (p *hello) greeting(args json.RawMessage) (json.RawMessage, error) {
	request := struct {
		Name string `json:"name"`
	}{Name: "world"}
	if len(args) > 0 {
		if err := json.Unmarshal(args, &request); err != nil {
			return json.Marshal(map[string]any{"error": "name is given more than once", "status": 400})
		}
	}
	return json.Marshal(map[string]string{"greeting": "Hello, " + request.Name + "!"})
}

func (p *hello) count(token string) (json.RawMessage, error) {
	const key, seconds = "counter", 3600
	p.counting.Lock()
	defer p.counting.Unlock()
	h := p.host.Load()
	value, found, err := h.cacheGet(token, key)
	if err != nil {
		return nil, err
	}
	count := 0
	if found {
		if count, err = strconv.Atoi(string(value)); err != nil {
			return nil, fmt.Errorf("the counter in the cache is not a number: %w", err)
		}
	}
	count++
	if err := h.cacheSet(token, key, []byte(strconv.Itoa(count)), seconds); err != nil {
		return nil, err
	}
	h.log(token, "debug", "counted", map[string]any{"count": count})
	return json.Marshal(map[string]int{"count": count})
}
