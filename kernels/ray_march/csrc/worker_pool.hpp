// Threads that share out the tiles of a frame. The caller is worker 0; with one worker there are no threads.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

class WorkerPool {
 public:
  explicit WorkerPool(int workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int workers() const { return static_cast<int>(threads_.size()) + 1; }
  // Calls task(worker, item) for every item in 0..items-1, each once; returns when all are done.
  void run(int items, const std::function<void(int, int)>& task);

 private:
  void loop(int worker);
  void stop();
  void take_items(int worker);

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  unsigned round_ = 0;
  int busy_ = 0, items_ = 0;
  bool stopping_ = false;
  std::atomic<int> next_{0};
  const std::function<void(int, int)>* task_ = nullptr;
};
