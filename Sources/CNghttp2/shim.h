// Imports libnghttp2 1.52 (Debian 12) into Swift.
#pragma once
#include <nghttp2/nghttp2.h>
