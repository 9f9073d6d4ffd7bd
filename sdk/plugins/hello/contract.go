package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/rpc"

	"github.com/hashicorp/go-plugin"
)

// The types that cross the wire. gob matches struct fields by name, so the names are the contract;
// net/rpc serves only methods whose types are exported.
type (
	InitRequest struct {
		Config    map[string]string
		HostAPIID uint32 // where the host listens for this plugin's calls; 0 where it does not
	}
	CallRequest struct {
		Function  string
		Args      json.RawMessage
		CallToken string // ties what the plugin asks of the host to this call, until it returns
	}
	CallResponse struct {
		Result json.RawMessage
		Error  string
	}
	HostRequest struct {
		Method       string
		Args         json.RawMessage
		CallerPlugin string // the host knows who is calling and does not read this
		CallToken    string
	}
	HostResponse struct {
		Result json.RawMessage
		Error  string
	}
)

// registration is what the plugin brings along, as JSON.
type registration struct {
	Name        string     `json:"name"`
	Version     string     `json:"version"`
	Description string     `json:"description"`
	Author      string     `json:"author"`
	License     string     `json:"license"`
	Routes      []route    `json:"routes,omitempty"`
	Resources   *resources `json:"resources,omitempty"`
}

// route has the host pass requests for a method and a path to the function named handler.
type route struct {
	Method      string   `json:"method"`
	Path        string   `json:"path"`
	Handler     string   `json:"handler"`
	Middleware  []string `json:"middleware,omitempty"` // none: anyone may call it
	Description string   `json:"description,omitempty"`
}

// resources is what the plugin asks for. What it gets is the operator's decision.
type resources struct {
	Permissions []permission `json:"permissions"`
}

type permission struct {
	Type   string   `json:"type"`
	Access string   `json:"access,omitempty"`
	Scope  []string `json:"scope,omitempty"`
}

// contract serves the plugin to a host, over go-plugin's net/rpc.
type contract struct{ plugin *hello }

func (c *contract) Server(broker *plugin.MuxBroker) (any, error) {
	return &server{plugin: c.plugin, broker: broker}, nil
}

func (c *contract) Client(*plugin.MuxBroker, *rpc.Client) (any, error) {
	return nil, errors.New("this program is a plugin, not a host")
}

// server has the four methods that the host calls. net/rpc wants their shape: an argument, a pointer
// for the reply, an error.
type server struct {
	plugin *hello
	broker *plugin.MuxBroker
}

func (s *server) GKRegister(_ any, reply *[]byte) error {
	text, err := json.Marshal(s.plugin.register())
	*reply = text
	return err
}

func (s *server) Init(req InitRequest, _ *any) error {
	if req.HostAPIID == 0 {
		return errors.New(name + " needs a host to call, and was given none")
	}
	conn, err := s.broker.Dial(req.HostAPIID)
	if err != nil {
		return fmt.Errorf("dial the host: %w", err)
	}
	return s.plugin.init(&host{rpc: rpc.NewClient(conn)}, req.Config)
}

func (s *server) Call(req CallRequest, resp *CallResponse) error {
	result, err := s.plugin.call(req.Function, req.Args, req.CallToken)
	if err != nil {
		resp.Error = err.Error()
		return nil // the call went through; its outcome is in the reply
	}
	resp.Result = result
	return nil
}

func (s *server) Shutdown(any, *any) error { return nil }

// host asks the host. Its connection carries many calls at once.
type host struct{ rpc *rpc.Client }

// call sends args as JSON and reads the result into reply, unless that is nil.
func (h *host) call(token, method string, args, reply any) error {
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	var resp HostResponse
	req := HostRequest{Method: method, Args: text, CallerPlugin: name, CallToken: token}
	if err := h.rpc.Call("Plugin.Call", req, &resp); err != nil {
		return fmt.Errorf("host rpc: %w", err)
	}
	if resp.Error != "" {
		return fmt.Errorf("host: %s", resp.Error)
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(resp.Result, reply)
}

// query answers one object per row, column to value.
func (h *host) query(token, query string, args ...any) ([]map[string]any, error) {
	rows := []map[string]any{}
	err := h.call(token, "db_query", map[string]any{"query": query, "args": args}, &rows)
	return rows, err
}

// cacheGet tells by its second value whether there was one.
func (h *host) cacheGet(token, key string) ([]byte, bool, error) {
	var reply struct {
		Value []byte `json:"value"`
		Found bool   `json:"found"`
	}
	err := h.call(token, "cache_get", map[string]any{"key": key}, &reply)
	return reply.Value, reply.Found, err
}

// cacheSet keeps a value for that many seconds.
func (h *host) cacheSet(token, key string, value []byte, seconds int) error {
	return h.call(token, "cache_set", map[string]any{"key": key, "value": value, "ttl": seconds}, nil)
}

// log writes to the host's log. A plugin goes on where that fails.
func (h *host) log(token, level, message string, fields map[string]any) {
	_ = h.call(token, "log", map[string]any{"level": level, "message": message, "fields": fields}, nil)
}
