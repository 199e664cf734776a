// HTTP downloads, and the one guard that decides whether the network may be touched at all.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/bytes.h"

namespace apr {

// Offline when the flag says so, or APR_OFFLINE or HF_HUB_OFFLINE is set to anything but 0, false or
// nothing.
bool IsOffline(bool offline_flag);

// Permission to use the network: every function that does takes one, and this is the only way to get it.
class Network {
 public:
  // Throws kNetwork when IsOffline(offline_flag); `purpose` is named in the message.
  static Network Get(bool offline_flag, const std::string& purpose);

 private:
  Network() = default;
};

struct HttpRequest {
  std::string url;           // http or https
  uint64_t first_byte = 0;   // ask for the rest from here on
};

struct HttpResult {
  uint64_t first_byte = 0;   // where the body began: 0 when the server sent the whole
  uint64_t bytes = 0;        // of the body
};

// GET, redirects followed. `begin` is called once before the body with the place where it begins; `sink`
// gets the body in pieces. Throws kHttpNotFound (404), kNetwork (anything else, after three tries for
// what may pass: no connection, 5xx; a body that broke off is not tried again here). What the callbacks
// throw goes through.
HttpResult HttpGet(const Network& network, const HttpRequest& request, const std::function<void(uint64_t first_byte)>& begin,
                   const std::function<void(Bytes)>& sink);
// A body of at most `limit` bytes.
std::string HttpGetText(const Network& network, const std::string& url, uint64_t limit);

// For a part of a URL's path: everything but letters, digits and -._~/ as %XX.
std::string UrlEscaped(std::string_view text);

}  // namespace apr
