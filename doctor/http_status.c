/*
 * Owns the table of HTTP statuses that a web server sends instead of the receiver, with their
 * causes.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <stdio.h>

static const struct explanation {
	int status;
	const char *meaning;
	const char *nginx, *apache;
} explanations[] = {
	{400, "the web server itself rejects the request as malformed",
	    "plain HTTP to a port that speaks TLS, or an invalid Host (server_name)",
	    "plain HTTP to a port that speaks TLS, or LimitRequestFieldSize"},
	{401, "the web server asks for a password, which the sender does not have",
	    "auth_basic off; in the location: the signature is the authentication",
	    "AuthType None and Require all granted for the location: the signature is the "
	    "authentication"},
	{403, "the web server denies access",
	    "deny or allow in the location or above it, or a WAF; the error log says \"access "
	    "forbidden by rule\"",
	    "Require all granted for the location; mod_security; for CGI, Options +ExecCGI. The error "
	    "log has AH01630 and the like"},
	{404, "the web server has no such path",
	    "no location = PATH with fastcgi_pass in the server { } that answers (is it the right "
	    "one? server_name), or the configuration is not reloaded",
	    "no ProxyPass or ScriptAlias for the path in the VirtualHost that answers (apachectl -S), "
	    "or the configuration is not reloaded"},
	{405, "the web server refuses POST: it takes the path for a static file",
	    "the location has no fastcgi_pass, or another location takes the path first",
	    "the path is no handler: SetHandler, ProxyPass or ScriptAlias is missing; or Limit, "
	    "LimitExcept"},
	{408, "the request took too long for the web server", "client_body_timeout",
	    "RequestReadTimeout"},
	{413, "even a small body is too large for the web server",
	    "client_max_body_size 2m; in the location",
	    "LimitRequestBody 2097152; with mod_fcgid, FcgidMaxRequestLen 2097152"},
	{421, "the web server does not serve this name over this connection", "server_name",
	    "ServerName and ServerAlias"},
	{426, "the web server requires another protocol", "listen ... ssl", "SSLRequireSSL"},
	{429, "the web server limits the rate; the sender tries again only minutes later",
	    "limit_req with a generous burst and nodelay, or none",
	    "mod_ratelimit, mod_evasive, mod_security"},
	{500, "the web server failed; its error log says why",
	    "a rewrite cycle, a missing file of include",
	    "CGI: the program does not run (suexec, its mode, its configuration); mod_fcgid: "
	    "FcgidMaxRequestLen"},
	{502, "the web server cannot communicate with the receiver",
	    "the receiver is not running, fastcgi_pass names another socket than PSAPI_LISTEN, or "
	    "nginx's user is not "
	    "in the socket's group (PSAPI_LISTEN_GROUP); the error log has \"connect() to unix:\"",
	    "the receiver closed the connection, or ProxyPass has another protocol than fcgi://"},
	{503, "the web server has no receiver to pass the request to",
	    "limit_req or limit_conn (their default status), or a maintenance page",
	    "the receiver is not running, ProxyPass names another socket than PSAPI_LISTEN, or "
	    "Apache's user is not "
	    "in the socket's group (PSAPI_LISTEN_GROUP); the error log has AH01079 or AH02454"},
	{504, "the receiver does not answer the web server in time",
	    "fastcgi_read_timeout is over: the receiver hangs, all its threads are taken "
	    "(PSAPI_THREADS), or the disk under the spool does",
	    "ProxyTimeout is over: the receiver hangs, all its threads are taken (PSAPI_THREADS), or "
	    "the disk under the spool does"},
	{0, "this is not psapi-fcgi's answer",
	    "another location or server answers: is this the URL that the snippet is for? nginx -T",
	    "another VirtualHost or location answers: is this the URL that the snippet is for? "
	    "apachectl -S"},
};

void
doctor_explain_status(struct finding *f, const struct http_answer *answer)
{
	enum { COUNT = sizeof(explanations) / sizeof(explanations[0]) };
	const struct explanation *e = &explanations[COUNT - 1];
	char remedy[sizeof(f->remedy)];

	for (int i = 0; i < COUNT; i++)
		if (explanations[i].status == answer->status)
			e = &explanations[i];
	snprintf(remedy, sizeof(remedy), "nginx: %s\nApache: %s", e->nginx, e->apache);
	doctor_failed(f, remedy, "HTTP %d by %.100s: %s", answer->status,
	    *answer->server != '\0' ? answer->server : "an unnamed server", e->meaning);
}
