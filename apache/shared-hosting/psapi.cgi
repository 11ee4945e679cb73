#!/bin/sh
# Starts psapi-fcgi under suexec: mode 0755, owned by you, in a directory that nobody else can write.
# Program, configuration, secret and spool lie outside the document root.
PSAPI_CONF=/home/YOU/psapi/psapi.conf exec /home/YOU/psapi/psapi-fcgi
