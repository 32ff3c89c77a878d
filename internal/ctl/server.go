package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	headerTimeout = 5 * time.Second  // for a caller to send the head of a request
	idleTimeout   = 60 * time.Second // between two requests on a connection
	writeTimeout  = 10 * time.Second // for a caller to take a reply
	maxHeader     = 16 << 10
	// closeTimeout is how long requests that were just answered may take to be
	// delivered when the server ends; those still at work are cancelled at once.
	closeTimeout = 2 * time.Second
)

// Options is what a Server needs. All but Group and AdminGroup are required.
type Options struct {
	Log        *slog.Logger
	Path       string // of the socket
	Backend    Backend
	Version    string // of the daemon
	Group      string // may read; default "tund"
	AdminGroup string // may write; default "tund-admin"
}

// Server answers requests on the control socket.
type Server struct {
	options Options
	socket  *limitedListener

	mu      sync.Mutex
	closed  bool           // no request may begin
	serving sync.WaitGroup // requests at work; added to with mu held and not closed
}

type callerKey struct{}

// Listen opens the socket. The server answers nobody before Run, but callers can
// connect and wait. It must be run, or closed.
func Listen(o Options) (*Server, error) {
	if o.Group == "" {
		o.Group = "tund"
	}
	if o.AdminGroup == "" {
		o.AdminGroup = "tund-admin"
	}
	socket, err := openSocket(o.Path, o.Group)
	if err != nil {
		return nil, err
	}
	return &Server{options: o, socket: newLimitedListener(socket)}, nil
}

// Close removes the socket of a server that is not run.
func (s *Server) Close() error { return s.socket.Close() }

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
		Handler:           s.newMux(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
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
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
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
		writeError(w, Errorf(CodeNotFound, "no request %s %s", r.Method, r.URL.Path))
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
		writeError(w, Errorf(CodeMethod, "method %s is not allowed for %s", r.Method, r.URL.Path))
		return
	}
	if !s.begin() {
		writeError(w, Errorf(CodeStopping, "tund is stopping"))
		return
	}
	defer s.serving.Done()
	answer, err := s.serve(w, r, found)
	if err != nil {
		writeError(w, explain(r, err))
		return
	}
	writeReply(w, http.StatusOK, answer)
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
	if !who.may(to.access, s.options.AdminGroup) {
		log.Warn("control request not permitted")
		return nil, Errorf(CodeForbidden, "only root and members of group %s may do this", s.options.AdminGroup)
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

func writeError(w http.ResponseWriter, err *Error) {
	writeReply(w, err.Status(), &ErrorReply{Error: err})
}

// writeReply sends one object and a line feed, for those who use curl.
func writeReply(w http.ResponseWriter, status int, answer reply) {
	answer.complete()
	text, err := json.Marshal(answer)
	if err != nil {
		panic(fmt.Sprintf("ctl: internal error: reply %T: %v", answer, err))
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the caller may be gone; nobody else is to be told
}
