{-# LANGUAGE OverloadedStrings #-}
-- `hedis hedis plain|cluster PORT PREFIX`: hedis does SET, GET, INCR, HSET, HGET, and pipelines what it can.
module Main (main) where

import Control.Monad (replicateM, unless)
import Control.Monad.IO.Class (liftIO)
import qualified Data.ByteString.Char8 as Bytes
import Database.Redis
import System.Environment (getArgs)

expect :: (Eq a, Show a) => a -> Either Reply a -> Redis ()
expect wanted got = unless (got == Right wanted) . liftIO . fail $ "wanted " ++ show wanted ++ ", got " ++ show got

main :: IO ()
main = do
  [_, mode, port, prefix] <- getArgs
  let info = defaultConnectInfo {connectHost = "127.0.0.1", connectPort = PortNumber (fromIntegral (read port :: Int))}
      key = Bytes.pack . (prefix ++)
  connection <- if mode == "cluster" then connectCluster info else checkedConnect info
  runRedis connection $ do
    set (key ":string") "value" >>= expect Ok
    get (key ":string") >>= expect (Just "value")
    incr (key ":counter") >>= expect 1
    incr (key ":counter") >>= expect 2
    hset (key ":hash") "field" "value" >>= expect 1
    hget (key ":hash") "field" >>= expect (Just "value")
    answers <- replicateM 10 (incr (key ":piped")) -- hedis reads answers when they are looked at: one pipeline
    mapM_ (uncurry expect) (zip [1 ..] answers)
  putStrLn "ok piped"
