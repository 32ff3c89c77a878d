package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxHeader bounds the head of a request.
const maxHeader = 16 << 10

// patience is how long the server waits for its callers.
type patience struct {
	header time.Duration // for the head of a request
	body   time.Duration // for the rest of it
	write  time.Duration // for a reply to be taken
	idle   time.Duration // between two requests on a connection
	// end is for replies to be taken when the server ends; requests still at work
	// are cancelled at once.
	end time.Duration
}

func defaultPatience() patience {
	return patience{
		header: 5 * time.Second, body: 5 * time.Second, write: 10 * time.Second,
		idle: time.Minute, end: 2 * time.Second,
	}
}

// Options is what a Server needs. Log, Path, Backend and Version are required.
type Options struct {
	Log        *slog.Logger
	Path       string // of the socket
	Backend    Backend
	Version    string            // of the daemon
	Socket     *net.UnixListener // that listens at Path already; nil: it is made
	Group      string            // may read; default "tund-status"
	AdminGroup string            // may read and write; default "tund-admin"
}

// Server answers requests on the control socket.
type Server struct {
	options  Options
	patience patience
	socket   *limitedListener

	mu      sync.Mutex
	closed  bool           // no request may begin
	serving sync.WaitGroup // requests at work; added to with mu held and not closed
}

type callerKey struct{}

// Listen opens the socket. The server answers nobody before Run, but callers can
// connect and wait. It must be run, or closed.
func Listen(o Options) (*Server, error) {
	if o.Group == "" {
		o.Group = "tund-status"
	}
	if o.AdminGroup == "" {
		o.AdminGroup = "tund-admin"
	}
	if o.Socket != nil {
		return newServer(o, inherit(o.Socket, o.Group, o.AdminGroup)), nil
	}
	socket, err := openSocket(o.Path, o.Group, o.AdminGroup)
	if err != nil {
		return nil, err
	}
	return newServer(o, socket), nil
}

func newServer(o Options, socket *socketFile) *Server {
	if socket.denied != nil {
		o.Log.Warn("control socket is not for its groups", "path", o.Path, "err", socket.denied)
	}
	return &Server{options: o, patience: defaultPatience(), socket: newLimitedListener(socket)}
}

// Close removes the socket of a server that is not run.
func (s *Server) Close() error { return s.socket.Close() }

// Gone reports whether nobody finds the socket any more: its file, which this server has made, is
// not there.
func (s *Server) Gone() bool { return s.socket.gone() }

// Run answers requests until ctx is done, then cancels those at work, waits for
// them, removes the socket and returns nil. It must be called once.
func (s *Server) Run(ctx context.Context) error {
	server := s.newHTTP(ctx)
	served := make(chan error, 1)                    // room for the one value: its sender must never wait
	go func() { served <- server.Serve(s.socket) }() // ends when the server is shut down
	select {
	case err := <-served:
		s.finish(server)
		return fmt.Errorf("control socket %s: %w", s.options.Path, err)
	case <-ctx.Done():
	}
	s.finish(server)
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket %s: %w", s.options.Path, err)
	}
	return nil
}

func (s *Server) newHTTP(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:           inTime(s.patience.body, s.newMux()),
		ReadHeaderTimeout: s.patience.header,
		IdleTimeout:       s.patience.idle,
		MaxHeaderBytes:    maxHeader,
		// OPTIONS * is no request of ours either.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.options.Log.Handler(), slog.LevelWarn),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, c.(*callerConn).caller)
		},
	}
}

// finish ends the HTTP server and waits for every request at work.
func (s *Server) finish(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), s.patience.end)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close()
	}
	_ = s.socket.Close() // the file too, when Shutdown came before Serve
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.serving.Wait()
}

// newMux gives each path one handler, which looks at the method itself so that
// every refusal is JSON.
func (s *Server) newMux() *http.ServeMux {
	paths := make(map[string]map[string]route)
	for _, r := range routes() {
		if paths[r.path] == nil {
			paths[r.path] = make(map[string]route)
		}
		paths[r.path][r.method] = r
	}
	mux := http.NewServeMux()
	for path, methods := range paths {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { s.dispatch(w, r, methods) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.writeError(w, Errorf(CodeNotFound, "no request %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// dispatch finds the route, asks whether the caller may, and has it served.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, methods map[string]route) {
	found, ok := methods[r.Method]
	if !ok {
		for method := range methods {
			w.Header().Add("Allow", method)
		}
		s.writeError(w, Errorf(CodeMethod, "method %s is not allowed for %s", r.Method, r.URL.Path))
		return
	}
	if !s.begin() {
		s.writeError(w, Errorf(CodeStopping, "tund is stopping"))
		return
	}
	defer s.serving.Done()
	answer, err := s.serve(w, r, found)
	if err != nil {
		s.writeError(w, explain(r, err))
		return
	}
	s.writeReply(w, http.StatusOK, answer)
	if a, ok := answer.(announcement); ok {
		_ = http.NewResponseController(w).Flush() // a caller who is gone changes nothing
		a.sent()
	}
}

// begin counts a request as at work, unless the server has ended.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.serving.Add(1)
	return true
}

// serve does what a route says if its caller may have that, and writes down who
// had something changed, or tried to.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, to route) (reply, error) {
	who, _ := r.Context().Value(callerKey{}).(caller)
	log := s.options.Log.With("uid", who.uid, "pid", who.pid, "path", r.URL.Path)
	groups := groupsWith(to.access, s.options)
	if !who.may(to.access, groups...) {
		log.Warn("control request not permitted")
		return nil, Errorf(CodeForbidden, "only root and members of group %s may do this", strings.Join(groups, " or "))
	}
	start := time.Now()
	answer, err := s.perform(w, r, to)
	if to.access == Write {
		if err != nil {
			log = log.With("err", err)
		}
		log.Info("control request served", "duration", time.Since(start))
	}
	return answer, err
}

// perform reads the request to its end and has the backend do it.
func (s *Server) perform(w http.ResponseWriter, r *http.Request, to route) (reply, error) {
	timeout, err := parseQuery(r.URL.RawQuery, to.call != "")
	if err != nil {
		return nil, err
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	if r.Method == http.MethodGet && len(body) > 0 {
		return nil, Errorf(CodeBadRequest, "body: %s takes none", r.URL.Path)
	}
	if to.call == "" {
		return &Version{Version: s.options.Version}, nil
	}
	ctx := r.Context()
	if timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = limited
	}
	answer, err := to.serve(ctx, s.options.Backend, r.PathValue("name"), body)
	if st, ok := answer.(*Status); ok && st.Node.Version == "" {
		st.Node.Version = s.options.Version
	}
	return answer, err
}

// explain turns an error into what the caller is told; a request that was
// cancelled while its caller still listens was so because the server stops.
func explain(r *http.Request, err error) *Error {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return Errorf(CodeStopping, "tund is stopping")
	}
	return asError(err)
}

func (s *Server) writeError(w http.ResponseWriter, err *Error) {
	s.writeReply(w, err.Status(), &ErrorReply{Error: err})
}

// writeReply sends one object and a line feed, for those who use curl.
func (s *Server) writeReply(w http.ResponseWriter, status int, answer reply) {
	answer.complete()
	tidy(reflect.ValueOf(answer).Elem())
	text, err := json.Marshal(answer)
	if err != nil {
		panic(fmt.Sprintf("ctl: internal error: reply %T: %v", answer, err))
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.patience.write))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)+1)) // it is whole before the handler returns
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the caller may be gone; nobody else is to be told
}
